// Pictures as files: to and from base64, and cut to the size a model paints.

export function fromBase64(text, type = "image/png") {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at += 1) bytes[at] = raw.charCodeAt(at);
  return new Blob([bytes], { type });
}

export function toDataUrl(blob) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(blob);
  });
}

export function toBlob(canvas) {
  return new Promise((done, failed) => {
    canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("the picture is too large"))));
  });
}

export function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** Draw `image` so that it fills the canvas; what is too much is cut off on both sides. */
export function drawCovering(canvas, image) {
  const scale = Math.max(canvas.width / image.width, canvas.height / image.height);
  const [width, height] = [image.width * scale, image.height * scale];
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

/** What the API calls a file's format, from its first bytes' type. */
export const suffixOf = (blob) => blob.type.replace("image/", "").replace("jpeg", "jpg") || "png";
