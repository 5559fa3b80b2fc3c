/** Where pictures come from: the file chooser, a drop anywhere on the page, the clipboard. */

/** Call `take` with each picture that comes in while `section` is shown. */
export function onPicture(section, take) {
  const input = section.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    const [file] = input.files;
    input.value = ""; // so that the same file can be chosen again
    if (file) take(file);
  });

  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file && !section.hidden) take(file);
  });

  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const setDragging = (isDragging) => section.toggleAttribute("data-dragging", isDragging);
  // Without this the browser would leave the page to show a file that was dropped.
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    setDragging(true);
  });
  addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) setDragging(false);
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    setDragging(false);
    const [file] = event.dataTransfer.files;
    if (file && !section.hidden) take(file);
  });
}
