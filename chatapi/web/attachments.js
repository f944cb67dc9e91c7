// Images and files that go with a message: read here, and made small enough to be sent.
import { strings } from "./strings.js";

/** @typedef {import("./types.d.ts").Attachment} Attachment */

export const MOST = 16; // attachments of a message, as the API takes them
const LARGE_BYTES = 1_500_000; // an image beyond this is made smaller
const LONGEST_SIDE = 2048; // pixels: models look no closer

/** A sentence about a file that cannot go along. */
export class Unattachable extends Error {}

/**
 * @param {File} file
 * @param {number} mostBytes of what may be sent in all
 * @returns {Promise<Attachment>}
 * @throws {Unattachable}
 */
export async function attach(file, mostBytes) {
  const isImage = /^image\/(png|jpeg|gif|webp)$/.test(file.type);
  const name = file.name || "image";
  let url;
  try {
    url = await dataUrl(isImage && file.size > LARGE_BYTES ? await smaller(file) : file);
  } catch {
    throw new Unattachable(strings.composer.unreadable(name));
  }
  if (url.length > mostBytes * 0.9) throw new Unattachable(strings.composer.tooLarge(name));
  return isImage ? { type: "image", url, name } : { type: "file", data: url, filename: name, name };
}

/**
 * @param {Blob} image
 * @returns {Promise<Blob>}
 */
async function smaller(image) {
  const picture = await createImageBitmap(image);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(picture.width * scale);
  canvas.height = Math.round(picture.height * scale);
  const context = canvas.getContext("2d");
  if (context === null) return image;
  context.fillStyle = "white"; // JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  const made = await new Promise((/** @type {(made: Blob | null) => void} */ resolve) =>
    canvas.toBlob(resolve, "image/jpeg", 0.9),
  );
  return made !== null && made.size < image.size ? made : image;
}

/**
 * @param {Blob} blob
 * @returns {Promise<string>}
 */
function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
