// A second subgraph, which knows an order's customer. Writes its address as a line and ends with its input.
import { createServer } from 'node:http'
import { buildSchema, graphql } from 'graphql'

const sdl = `
  type Query { orders: [Orders!]! }
  type Orders @key(fields: "id") { id: BigInt! customer: Customer! }
  type Customer { name: String! }
  scalar BigInt
`
const schema = buildSchema(`
  ${sdl}
  directive @key(fields: String!) on OBJECT
  extend type Query { _service: Service! _entities(representations: [_Any!]!): [_Entity]! }
  type Service { sdl: String! }
  scalar _Any
  union _Entity = Orders
`)
const order = ({ id }) => ({ __typename: 'Orders', id, customer: { name: `customer of ${id}` } })
const rootValue = {
  _service: { sdl: `extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"]) ${sdl}` },
  _entities: ({ representations }) => representations.map(order),
  orders: () => [order({ id: '1' }), order({ id: '2' })],
}
const server = createServer(async (request, response) => {
  const { query, variables } = JSON.parse(await new Response(request).text())
  response.setHeader('content-type', 'application/json')
  response.end(JSON.stringify(await graphql({ schema, source: query, variableValues: variables, rootValue })))
})
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/graphql`))
process.stdin.on('end', () => process.exit()).resume()
