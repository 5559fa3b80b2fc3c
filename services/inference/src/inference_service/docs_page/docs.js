// Shows the OpenAPI documents of the services in Swagger UI, one at a time.
"use strict";

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
