// Composes subgraphs: {name: {url, sdl}} on standard input, the supergraph on standard output.
import { composeServices } from '@apollo/composition'
import { parse } from 'graphql'

const subgraphs = JSON.parse(await new Response(process.stdin).text())
const { errors, supergraphSdl } = composeServices(
  Object.entries(subgraphs).map(([name, { url, sdl }]) => ({ name, url, typeDefs: parse(sdl) })),
)
if (errors) {
  console.error(errors.map((e) => e.message).join('\n'))
  process.exit(1)
}
process.stdout.write(supergraphSdl)
