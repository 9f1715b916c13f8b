// Draws boxes and labels on a canvas over the video.

import { LABELS, confidenceText } from "./messages.js";

const COLOURS = { with_mask: "#2fe0bb", without_mask: "#ff8350", unsure: "#ffd84d" };
const DASHES = { with_mask: [], without_mask: [], unsure: [7, 6] };

/** Position and scale of the image in its element, in CSS pixels; `object-fit: contain` leaves bars around it. */
function imageArea(element, width, height) {
  const scale = Math.min(element.clientWidth / width, element.clientHeight / height);
  return {
    scale,
    x: (element.clientWidth - width * scale) / 2,
    y: (element.clientHeight - height * scale) / 2,
    width: width * scale,
  };
}

/** Draw the faces of an answer; null clears the canvas. */
export function draw(canvas, answer, mirrored) {
  const density = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * density), height = Math.round(canvas.clientHeight * density);
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  context.setTransform(density, 0, 0, density, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  if (!answer) return;
  const area = imageArea(canvas, answer.width, answer.height);
  for (const face of answer.faces) {
    const [left, top, right, bottom] = face.box;
    const x = mirrored ? area.x + area.width - right * area.scale : area.x + left * area.scale;
    const y = area.y + top * area.scale;
    drawFace(context, face, x, y, (right - left) * area.scale, (bottom - top) * area.scale, canvas.clientWidth);
  }
}

function drawFace(context, face, x, y, width, height, canvasWidth) {
  const colour = COLOURS[face.label];
  context.globalAlpha = face.detected ? 1 : 0.4;
  context.setLineDash(DASHES[face.label]);
  for (const [style, lineWidth] of [["rgb(0 0 0 / 45%)", 5], [colour, 3]]) { // visible on any background
    context.strokeStyle = style;
    context.lineWidth = lineWidth;
    context.beginPath();
    context.roundRect(x, y, width, height, Math.min(10, width / 6));
    context.stroke();
  }
  context.setLineDash([]);
  const small = width < 60;
  const text = small ? confidenceText(face) : `${LABELS[face.label]} ${confidenceText(face)}`;
  context.font = `600 ${small ? 12 : 14}px system-ui, "Liberation Sans", sans-serif`;
  const tagWidth = context.measureText(text).width + 14, tagHeight = small ? 18 : 22;
  const tagX = Math.max(2, Math.min(x - 1.5, canvasWidth - tagWidth - 2));
  const tagY = y >= tagHeight + 4 ? y - tagHeight - 3 : y + height + 3;
  context.fillStyle = colour;
  context.beginPath();
  context.roundRect(tagX, tagY, tagWidth, tagHeight, 6);
  context.fill();
  context.fillStyle = "#0a1210";
  context.textBaseline = "middle";
  context.fillText(text, tagX + 7, tagY + tagHeight / 2 + 0.5);
  context.globalAlpha = 1;
}
