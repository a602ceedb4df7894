// Bundles the page and writes it compressed to ../assets: the same bytes for the same lock file, on any machine.
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const result = await build({
  absWorkingDir: here,
  entryPoints: ['main.jsx'],
  outfile: 'graphiql.js',
  bundle: true,
  write: false,
  minify: true,
  legalComments: 'none', // assets/LICENSES.txt has the licenses
  format: 'iife',
  target: ['chrome100', 'firefox100', 'safari15.4'],
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"', 'globalThis.process.env.NODE_ENV': '"production"' },
  loader: { '.woff2': 'dataurl' },
  metafile: true,
});

const assets = join(here, '..', 'assets');
await mkdir(assets, { recursive: true });
for (const file of result.outputFiles) {
  const zipped = gzipSync(file.contents, { level: 9 });
  zipped[9] = 255; // the operating system's field: unknown
  const name = file.path.slice(file.path.lastIndexOf('/') + 1) + '.gz';
  await writeFile(join(assets, name), zipped);
  console.log(name, file.contents.length, zipped.length);
}
await writeFile(join(assets, 'LICENSES.txt'), await licenses(Object.keys(result.metafile.inputs)));

// licenses collects the license of each package that is in the bundle.
async function licenses(inputs) {
  const { readdir, readFile } = await import('node:fs/promises');
  const packages = new Set();
  for (const input of inputs) {
    const at = input.lastIndexOf('node_modules/');
    if (at < 0) continue;
    const parts = input.slice(at).split('/');
    packages.add(input.slice(0, at) + parts.slice(0, parts[1].startsWith('@') ? 3 : 2).join('/'));
  }
  const texts = [];
  for (const dir of [...packages].sort()) {
    const { name, version, license } = JSON.parse(await readFile(join(here, dir, 'package.json'), 'utf8'));
    const file = (await readdir(join(here, dir))).find((f) => /^licen[sc]e/i.test(f));
    const text = file ? await readFile(join(here, dir, file), 'utf8') : '';
    texts.push(`${name} ${version} (${license})\n\n${text.trim()}\n`);
  }
  return texts.join('\n' + '-'.repeat(80) + '\n\n');
}
