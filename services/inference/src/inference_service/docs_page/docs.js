// Shows the OpenAPI documents of the services in Swagger UI, one at a time.
"use strict";

// Swagger UI has dark colours, and does not ask the system for which it likes.
const dark = matchMedia("(prefers-color-scheme: dark)");
const takeColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", takeColours);
takeColours();

const choice = document.getElementById("document");
const wanted = new URLSearchParams(location.search).get("document");
if ([...choice.options].some((option) => option.value === wanted)) {
  choice.value = wanted;
}

const ui = SwaggerUIBundle({
  url: choice.value,
  dom_id: "#swagger",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});

choice.addEventListener("change", () => {
  history.replaceState(null, "", `?document=${choice.value}`);
  ui.specActions.updateUrl(choice.value);
  ui.specActions.download(choice.value);
});
