/** Where pictures come from: the file chooser, a drop anywhere on the page, the clipboard. */

/**
 * Call `take` with each picture that comes in while `section` is shown, and with how many came
 * together: it is given the first of them.
 */
export function onPicture(section, take) {
  const takeFirst = (files) => {
    if (files.length && !section.hidden) take(files[0], files.length);
  };
  const input = section.querySelector("input[type=file]");
  input.addEventListener("change", () => {
    takeFirst([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  });

  document.addEventListener("paste", (event) => {
    takeFirst(event.clipboardData?.files ?? []);
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
    takeFirst(event.dataTransfer.files);
  });
}
