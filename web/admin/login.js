// Login and logout.

import { $, button, get as element, input } from '../dom.js';
import { get, post } from './api.js';

/** Shows the login, or the page. @param {boolean} isOpen */
const show = (isOpen) => {
  $('login').hidden = isOpen;
  $('view').hidden = $('nav').hidden = !isOpen;
  if (!isOpen) input('password').focus();
};

/** Prepares login and logout; calls `opened` whenever the page is open. @param {() => void} opened @param {() => void} closed */
export const startLogin = async (opened, closed) => {
  const logout = button('logout');
  const open = () => {
    show(true);
    opened();
  };
  const close = () => {
    closed();
    logout.hidden = true;
    show(false);
  };
  element('login-form', HTMLFormElement).onsubmit = async (event) => {
    event.preventDefault();
    $('login-error').textContent = '';
    try {
      await post('login', { password: input('password').value });
      input('password').value = '';
      logout.hidden = false;
      open();
    } catch (error) {
      $('login-error').textContent = error instanceof Error ? error.message : String(error);
      input('password').select();
    }
  };
  logout.onclick = async () => {
    await post('logout').catch(() => undefined);
    close();
  };
  addEventListener('loggedout', close);
  const session = await get('session');
  logout.hidden = !session.login || !session.open;
  if (session.open) open();
  else close();
};
