// Boxes and labels on a canvas over the picture.

import { LABELS, sureness } from "./messages.js";

const COLOURS = { with_mask: "#2fe0bb", without_mask: "#ff8350", unsure: "#ffd84d" };
const DASHES = { with_mask: [], without_mask: [], unsure: [7, 6] };

/** Where the picture lies in its element, in CSS pixels: object-fit: contain leaves bars. */
export function placed(element, width, height) {
  const scale = Math.min(element.clientWidth / width, element.clientHeight / height);
  return {
    scale,
    x: (element.clientWidth - width * scale) / 2,
    y: (element.clientHeight - height * scale) / 2,
    width: width * scale,
  };
}

/** Draw an answer's faces; null clears. */
export function draw(canvas, answer, mirrored) {
  const dense = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * dense), height = Math.round(canvas.clientHeight * dense);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  if (!answer) return;
  const place = placed(canvas, answer.width, answer.height);
  for (const face of answer.faces) {
    const [left, top, right, bottom] = face.box;
    const x = mirrored ? place.x + place.width - right * place.scale : place.x + left * place.scale;
    const y = place.y + top * place.scale;
    box(pen, face, x, y, (right - left) * place.scale, (bottom - top) * place.scale, canvas.clientWidth);
  }
}

function box(pen, face, x, y, width, height, limit) {
  const colour = COLOURS[face.label];
  pen.globalAlpha = face.found ? 1 : 0.4;
  pen.setLineDash(DASHES[face.label]);
  for (const [style, thick] of [["rgb(0 0 0 / 45%)", 5], [colour, 3]]) { // readable on any picture
    pen.strokeStyle = style;
    pen.lineWidth = thick;
    pen.beginPath();
    pen.roundRect(x, y, width, height, Math.min(10, width / 6));
    pen.stroke();
  }
  pen.setLineDash([]);
  const small = width < 60;
  const text = small ? sureness(face) : `${LABELS[face.label]} ${sureness(face)}`;
  pen.font = `600 ${small ? 12 : 14}px system-ui, "Liberation Sans", sans-serif`;
  const wide = pen.measureText(text).width + 14, high = small ? 18 : 22;
  const tagX = Math.max(2, Math.min(x - 1.5, limit - wide - 2));
  const tagY = y >= high + 4 ? y - high - 3 : y + height + 3;
  pen.fillStyle = colour;
  pen.beginPath();
  pen.roundRect(tagX, tagY, wide, high, 6);
  pen.fill();
  pen.fillStyle = "#0a1210";
  pen.textBaseline = "middle";
  pen.fillText(text, tagX + 7, tagY + high / 2 + 0.5);
  pen.globalAlpha = 1;
}
