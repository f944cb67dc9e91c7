// Images and files that are attached to a message: read in the browser, with large images scaled down.
import { strings } from "../strings.js";

/** @typedef {import("../types.d.ts").Attachment} Attachment */

export const MAX_ATTACHMENTS = 16; // per message; the API's limit
const LARGE_IMAGE_BYTES = 1_500_000; // a larger image is scaled down
const MAX_SIDE_PIXELS = 2048; // models see no more detail than this

/** The file cannot be attached; the message is a sentence for the user. */
export class AttachmentError extends Error {}

/**
 * @param {File} file
 * @param {number} maxBytes of all attachments of a message together
 * @returns {Promise<Attachment>}
 * @throws {AttachmentError}
 */
export async function readAttachment(file, maxBytes) {
  const isImage = /^image\/(png|jpeg|gif|webp)$/.test(file.type);
  const name = file.name || "image";
  let url;
  try {
    url = await readDataUrl(isImage && file.size > LARGE_IMAGE_BYTES ? await scaleDown(file) : file);
  } catch {
    throw new AttachmentError(strings.composer.unreadable(name));
  }
  if (url.length > maxBytes * 0.9) throw new AttachmentError(strings.composer.tooLarge(name));
  return isImage ? { type: "image", url, name } : { type: "file", data: url, filename: name, name };
}

/**
 * @param {Blob} image
 * @returns {Promise<Blob>} a JPEG, or the image itself if that is smaller
 */
async function scaleDown(image) {
  const bitmap = await createImageBitmap(image);
  const scale = Math.min(1, MAX_SIDE_PIXELS / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  const context = canvas.getContext("2d");
  if (context === null) return image;
  context.fillStyle = "white"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const scaled = await new Promise((/** @type {(scaled: Blob | null) => void} */ resolve) =>
    canvas.toBlob(resolve, "image/jpeg", 0.9),
  );
  return scaled !== null && scaled.size < image.size ? scaled : image;
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
function readDataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
