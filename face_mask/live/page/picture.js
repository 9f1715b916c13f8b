// A still picture that the user chooses, drops or pastes: shown on a canvas, and sent like a frame of the camera.

import { pictureProblem } from "./messages.js";

const MAX_BYTES = 64 * 2 ** 20; // of the file, as for `face-mask predict`
const MAX_PIXELS = 50_000_000;
const MAX_SENT_PIXELS = 1920 * 1080; // of a frame that the server takes
const QUALITY = 0.92;

/** An image file as {canvas, jpeg, name}, of at most MAX_SENT_PIXELS; throws {title, text}. */
export async function readPicture(file) {
  if (file.size > MAX_BYTES) throw pictureProblem(file.name, `is larger than ${MAX_BYTES >> 20} MB`);
  let bitmap;
  try {
    bitmap = await createImageBitmap(file); // upright, as its EXIF data say
  } catch {
    throw pictureProblem(file.name, "is not an image, is damaged, or has a format that the browser cannot decode");
  }
  try {
    const { width, height } = bitmap;
    if (width * height > MAX_PIXELS) throw pictureProblem(file.name, `has more than ${MAX_PIXELS / 1e6} megapixels`);
    const scale = Math.min(1, Math.sqrt(MAX_SENT_PIXELS / (width * height)));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.floor(width * scale));
    canvas.height = Math.max(1, Math.floor(height * scale));
    const context = canvas.getContext("2d", { alpha: false });
    context.fillStyle = "#fff"; // behind transparency
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
    if (!blob) throw pictureProblem(file.name, "cannot be encoded by the browser");
    return { canvas, jpeg: await blob.arrayBuffer(), name: file.name || "the pasted picture" };
  } finally {
    bitmap.close();
  }
}

/** The first file of a drop or of the clipboard; null if there is none. */
export const fileOf = (transfer) => transfer?.files?.[0] ?? null;
