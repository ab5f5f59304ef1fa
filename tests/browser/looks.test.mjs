// Screenshots of every part of the page for visual review: target/browser/*.png.
import test from 'node:test';

import { file, fruit, serve, shot, shows, turn, upload, visit } from './support.mjs';

const { url } = await serve();
const remark = (id) => (id % 9 ? ['', 'fragile', 'lot 4yq6', 'paid'][id % 4] : 'the crate is half open, and the label on its side cannot be read any more');
const cities = ['Lisbon', 'Zürich', 'São Paulo', 'Osaka', 'Reykjavík'];
const lines = fruit(12_345).trimEnd().split('\n').map((line, id) => (id ? `${line}\t${cities[id % 5]}\t2026-0${1 + (id % 9)}-1${id % 10}\t${remark(id)}` : `${line}\tcity\tordered\tremark`));
const orders = file('orders 2026.tsv', `${lines.join('\n')}\n`);

for (const [width, height] of [[1280, 800], [390, 844]]) {
  for (const colorScheme of ['light', 'dark']) {
    test(`screenshots at ${width}×${height}, ${colorScheme}`, async (t) => {
      const page = await visit(t, url, { viewport: { width, height }, colorScheme });
      const picture = (name) => shot(page, `${name}-${width}-${colorScheme}`);
      const press = (name) => page.getByRole('button', { name, exact: true }).click();
      await picture('home');
      const link = await upload(page, orders);
      await page.getByRole('columnheader', { name: /price/ }).getByText('decimal').waitFor();
      await picture('table');
      const guest = await visit(t, link);
      await shows(guest, 1);
      await guest.keyboard.press('n');
      await shows(page, 101);
      await picture('turned');
      if (width < 800) await press('Tools');
      for (const name of ['Share', 'File', 'Columns', 'Keys', 'Filter price']) {
        await press(name);
        await page.locator(':popover-open').waitFor();
        if (name === 'Share') await page.getByRole('img', { name: 'QR code of the link' }).waitFor();
        await picture(name.toLowerCase().replace(' ', '-'));
        await page.keyboard.press('Escape');
      }
      await press('price');
      await page.getByLabel('Search').fill('fig');
      await page.getByText('found').waitFor();
      await press('Browse on my own');
      await turn(page, 'Next page');
      await page.locator('#banner').waitFor();
      await picture('alone');
      await page.keyboard.press('Escape');
      await page.getByLabel('Search').fill('nothing like this');
      await page.getByText('No row matches').waitFor();
      await picture('nothing');
      await page.goto(url);
      await page.getByRole('link', { name: /orders/ }).waitFor();
      await picture('home-again');
      await page.evaluate(() => scrollTo(0, document.body.scrollHeight));
      await picture('home-server');
    });
  }
}
