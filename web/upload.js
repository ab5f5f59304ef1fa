// A file on its way to the server, in chunks, over the connection that also shows it.

/** How much is sent at once; the server takes at most 1 MiB. */
const CHUNK = 1 << 20;
/** How much may wait in the browser before more is read from the file. */
const AHEAD = 4 << 20;

/** @param {number} ms */
const rest = (ms) => new Promise((wake) => { setTimeout(wake, ms); });

/**
 * Sends a file and says when all of it has been handed over.
 * @param {import('./socket.js').Socket} socket
 * @param {File} file
 * @param {AbortSignal} stop
 * @returns {Promise<void>} fails when the file cannot be read, the connection is lost, or `stop` says so
 */
export const upload = async (socket, file, stop) => {
  /** @param {object} message */
  const send = (message) => {
    stop.throwIfAborted();
    if (!socket.send(message)) throw new Error('the connection was lost');
  };
  send({ upload: { name: file.name, size: file.size } });
  for (let at = 0; at < file.size; at += CHUNK) {
    const chunk = await file.slice(at, at + CHUNK).arrayBuffer();
    while (socket.isOpen && socket.waiting > AHEAD && !stop.aborted) await rest(10);
    send(chunk);
  }
  send({ upload_end: {} });
};
