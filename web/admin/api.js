// Requests to the server. All addresses are relative to the page, so that it works under any path prefix.

import { root } from '../dom.js';

/** An error response. */
export class ResponseError extends Error {
  /** @param {number} status @param {string} text @param {number} wait seconds until a further attempt */
  constructor(status, text, wait) {
    super(text);
    this.status = status;
    this.wait = wait;
  }
}

/** @param {string} path */
export const address = (path) => new URL(`api/${path}`, root).href;

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<any>}
 */
const request = async (path, options) => {
  const response = await fetch(address(path), options);
  if (!response.ok) {
    const text = (await response.text()).trim();
    const error = new ResponseError(response.status, text, Number(response.headers.get('retry-after') ?? 0));
    if (error.status === 401 && path !== 'login') dispatchEvent(new Event('loggedout'));
    throw error;
  }
  return response.json();
};

/** @param {string} path */
export const get = (path) => request(path);

/** Requests that may change something carry a header that no page of another site can send. @param {string} path @param {unknown} [body] */
export const post = (path, body = {}) => request(path, {
  method: 'POST',
  headers: { 'content-type': 'application/json', 'x-tidings-admin': '1' },
  body: JSON.stringify(body),
});

/**
 * Runs a command of the server API; throws its error.
 * @param {string} method
 * @param {object} body
 */
export const command = async (method, body) => {
  const { result, error } = await post(`command/${method}`, body);
  if (error) throw new Error(`${error.message} (${error.code})`);
  return result ?? {};
};
