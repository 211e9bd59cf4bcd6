// Shows openapi.json of this plane; of a worker ?module=NAME shows one module. Nothing is loaded from elsewhere.
window.ui = SwaggerUIBundle({
  url: "openapi.json" + window.location.search,
  dom_id: "#routes",
  deepLinking: true,
  docExpansion: "none",
  defaultModelsExpandDepth: 0,
  filter: true,
  showExtensions: true,
  validatorUrl: null,
});
