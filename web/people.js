// The people at the table: one's own name, the list, their cursors, and following one of them.

import { announceCursor } from './cursor.js';
import { $, beforeOpen, button, count, get, input, isOpen, make } from './dom.js';
import { draw, grid, reveal } from './grid.js';
import { name as columnName, state } from './state.js';
import { note, update } from './update.js';
import { follow } from './views.js';

/** @typedef {import('./types').Person} Person */

const KEY = 'tidings name';
const KINDS = 'Amber Brave Calm Clever Coral Dapper Eager Gentle Golden Happy Jolly Keen Kind Lively Lucky Mellow Merry Noble Quick Quiet Silver Sunny Swift Witty'.split(' ');
const ANIMALS = 'Badger Beaver Crane Deer Dolphin Falcon Finch Fox Hare Heron Ibis Koala Lark Lynx Magpie Marten Otter Owl Panda Puffin Robin Seal Swan Wren'.split(' ');

/** @param {string[]} words */
const any = (words) => words[Math.floor(Math.random() * words.length)];

/** The name in this browser; a random one until the user chooses one. */
const ownName = () => {
  try {
    let kept = localStorage.getItem(KEY);
    if (!kept) localStorage.setItem(KEY, kept = `${any(KINDS)} ${any(ANIMALS)}`);
    return kept;
  } catch {
    // Storage may be forbidden.
    return `${any(KINDS)} ${any(ANIMALS)}`;
  }
};

/** @param {string} name */
const rename = (name) => {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // Then the name lasts until the page is closed.
  }
  state.send({ me: { name } });
};

/** The author of a view's last change, as the subject of a sentence. @param {import('./types').View} view @param {boolean} isMine */
export const actor = ({ changed_by: author }, isMine) => {
  if (author === undefined) return isMine ? 'You' : 'Another viewer';
  if (author?.by === 'api') return 'A program';
  if (author?.by === 'cli') return 'The command line';
  if (author?.id && author.id === state.me) return 'You';
  return author?.name || (isMine ? 'You' : 'Another viewer');
};

/** The first letters of a name. @param {string} name */
const initials = (name) => name.split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase();

/** Starts to follow a person: their cursor stays on screen. @param {Person} person */
const followPerson = (person) => {
  $('people').hidePopover();
  if (state.alone) follow();
  state.follows = person.id;
  if (!person.cursor) note(`${person.name} has not pointed at a cell yet.`, '');
  showFollowed();
  update();
};

const showFollowed = () => {
  const cursor = state.people.get(state.follows)?.cursor;
  if (cursor) reveal(cursor.row, grid.layout.shown.indexOf(cursor.column));
};

/** Updates the list and the button that opens it. */
export const people = () => {
  const { people: all, view } = state;
  const others = [...all.values()].filter(({ id }) => id !== state.me);
  const me = all.get(state.me);
  button('people-open').hidden = !all.size;
  $('faces').replaceChildren(...[...(me ? [me] : []), ...others].slice(0, 4).map(({ name, color }) => {
    const face = make('span', { class: 'face', title: name }, initials(name));
    face.style.background = color;
    return face;
  }));
  $('people-count').textContent = count(view?.viewers ?? all.size);
  const followed = all.get(state.follows);
  $('followed').hidden = !followed;
  $('followed-text').textContent = followed ? `Following ${followed.name}` : '';
  if (!isOpen('people')) return;
  const rest = (view?.viewers ?? 0) - all.size;
  $('people-list').replaceChildren(...[...(me ? [me] : []), ...others].map((person) => {
    const { id, name, color, owner, cursor } = person;
    const face = make('span', { class: 'face', 'aria-hidden': 'true' }, initials(name));
    face.style.background = color;
    const where = person.private ? 'browses alone' : cursor ? `row ${count(cursor.row + 1)}, ${columnName(cursor.column)}` : '';
    const facts = [id === state.me ? 'you' : '', owner ? 'owner' : '', view?.changed_by?.id === id ? 'leads' : '', where].filter(Boolean).join(' · ');
    const lines = [face, make('span', {}, make('strong', {}, name), make('span', { class: 'quiet' }, facts))];
    return make('li', {}, id === state.me
      ? make('p', { class: 'person' }, ...lines)
      : make('button', { class: 'person', title: `Follow ${name}`, onclick: () => followPerson(person) }, ...lines));
  }), ...(rest > 0 ? [make('li', { class: 'quiet' }, `and ${count(rest)} more`)] : []));
};

/** @param {import('./types').Message} message */
export const onPeople = ({ people: list, you, person, person_left: left }) => {
  if (list) state.people = new Map(list.map((one) => [one.id, one]));
  if (you) {
    state.me = you;
    state.send({ me: { name: ownName() } });
    announceCursor();
  }
  if (person) state.people.set(person.id, person);
  if (left) state.people.delete(left);
  if (left === state.follows) state.follows = '';
  if (person?.id === state.follows) showFollowed();
  people();
  draw();
};

/** Adds the event handlers. */
export const startPeople = () => {
  beforeOpen('people', () => {
    input('me').value = state.people.get(state.me)?.name ?? ownName();
    people();
  });
  get('rename', HTMLFormElement).onsubmit = (event) => {
    event.preventDefault();
    const name = input('me').value.trim();
    if (name) rename(name);
    $('people').hidePopover();
  };
  button('unfollow').onclick = () => {
    state.follows = '';
    people();
  };
};
