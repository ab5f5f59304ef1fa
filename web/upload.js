// Uploads a file in chunks, over the connection that also shows it.

/** Size of a chunk; the server accepts at most 1 MiB. */
const CHUNK = 1 << 20;
/** Most unsent bytes in the browser before the next chunk is read. */
const AHEAD = 4 << 20;

/** @param {number} ms */
const rest = (ms) => new Promise((wake) => { setTimeout(wake, ms); });

/**
 * Sends a file; resolves when all of it is handed to the browser.
 * @param {import('./socket.js').Socket} socket
 * @param {File} file
 * @param {AbortSignal} stop
 * @param {boolean} [text] whether a file that is no text is read as text
 * @returns {Promise<void>} fails when the file cannot be read, the connection is lost, or `stop` is aborted
 */
export const upload = async (socket, file, stop, text = false) => {
  /** @param {object} message */
  const send = (message) => {
    stop.throwIfAborted();
    if (!socket.send(message)) throw new Error('the connection was lost');
  };
  send({ upload: { name: file.name, size: file.size, ...(text && { text }) } });
  for (let at = 0; at < file.size; at += CHUNK) {
    const chunk = await file.slice(at, at + CHUNK).arrayBuffer();
    while (socket.isOpen && socket.waiting > AHEAD && !stop.aborted) await rest(10);
    send(chunk);
  }
  send({ upload_end: {} });
};
