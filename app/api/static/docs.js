// The page is dark where the reader's other pages are.
const darkness = matchMedia("(prefers-color-scheme: dark)");
const adapt = () => document.documentElement.classList.toggle("dark-mode", darkness.matches);
darkness.addEventListener("change", adapt);
adapt();

// validatorUrl: the default asks another host to check the document.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
