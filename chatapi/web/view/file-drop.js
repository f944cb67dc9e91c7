// Files that are dropped anywhere on the page. Outside the composer, the browser would open them instead.
import { useEffect, useState } from "../vendor/htm-preact.js";

/**
 * Call `onFiles` with dropped files. Returns whether files are being dragged over the page.
 * @param {unknown} owner listeners are renewed when it changes
 * @param {(files: Iterable<File>) => void} onFiles
 */
export function useFileDrop(owner, onFiles) {
  const [isDropping, setDropping] = useState(false);
  useEffect(() => {
    const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
    const onDragOver = (/** @type {DragEvent} */ event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setDropping(true);
    };
    const onDragLeave = (/** @type {DragEvent} */ event) => {
      if (event.relatedTarget === null) setDropping(false); // the pointer left the window
    };
    const onDrop = (/** @type {DragEvent} */ event) => {
      setDropping(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      onFiles(event.dataTransfer?.files ?? []);
    };
    addEventListener("dragover", onDragOver);
    addEventListener("dragleave", onDragLeave);
    addEventListener("drop", onDrop);
    return () => {
      removeEventListener("dragover", onDragOver);
      removeEventListener("dragleave", onDragLeave);
      removeEventListener("drop", onDrop);
    };
  }, [owner]);
  return isDropping;
}
