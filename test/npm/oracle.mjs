// graphql-js as an oracle. Reads {sdl, cases: [{query, operation, variables, roots}]} from standard input and writes what
// graphql-js makes of each case: the stage that it gets to, its errors, and its result over each of the roots.
import {
  assertValidSchema, buildClientSchema, buildSchema, execute, getIntrospectionQuery, getOperationAST, getVariableValues,
  GraphQLError, isIntrospectionType, isSpecifiedScalarType, Kind, parse, printType,
  specifiedRules, subscribe, validate, valueFromASTUntyped,
} from 'graphql'

const input = JSON.parse(await new Response(process.stdin).text())
const schema = buildSchema(input.sdl)
assertValidSchema(schema)

// What our scalars accept, said once more and independently.
const iso = '([+-]\\d{6}|\\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])'
const time = '([01]\\d|2[0-3]):[0-5]\\d(:[0-5]\\d(\\.\\d+)?)?'
const text = (pattern) => (v) => typeof v === 'string' && new RegExp(`^(${pattern})$`).test(v)
const scalars = {
  BigInt: (v) => (typeof v === 'string' && /^[+-]?\d+$/.test(v) && inInt64(v)) || (typeof v === 'number' && Number.isInteger(v)) || (typeof v === 'bigint' && inInt64(v)),
  Decimal: (v) => typeof v === 'number' || typeof v === 'bigint' || text('[+-]?(\\d+\\.?\\d*|\\.\\d+)([eE][+-]?\\d+)?|NaN|-?Infinity')(v),
  Bytes: text('([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?'),
  Cursor: (v) => typeof v === 'string',
  Date: text(`${iso}|-?infinity`),
  DateTime: text(`${iso}[T ]${time}(Z|[+-]\\d\\d(:\\d\\d)?)|-?infinity`),
  LocalDateTime: text(`${iso}[T ]${time}|-?infinity`),
  Duration: text('[+-]?P(?=.)([+-]?\\d+Y)?([+-]?\\d+M)?([+-]?\\d+W)?([+-]?\\d+D)?(T(?=.)([+-]?\\d+H)?([+-]?\\d+M)?([+-]?\\d+(\\.\\d+)?S)?)?'),
  Time: text(`${time}|24:00(:00)?`),
  UUID: text('[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}'),
}
const inInt64 = (v) => BigInt.asIntN(64, BigInt(v)) === BigInt(v)
for (const [name, accepts] of Object.entries(scalars)) {
  const type = schema.getType(name)
  if (!type) continue
  if (name === 'BigInt' || name === 'Decimal') type.serialize = String
  type.parseValue = (v) => {
    if (!accepts(v)) throw new GraphQLError(`${name} cannot represent ${JSON.stringify(String(v))}`)
    return v
  }
  const literal = (node, v) => {
    if (!accepts(v)) throw new GraphQLError(`${name} cannot represent ${JSON.stringify(String(v))}`, { nodes: node })
    return v
  }
  type.parseLiteral = (node) => {
    const big = node.kind === Kind.INT && (name === 'BigInt' || name === 'Decimal')
    if (node.kind === Kind.ENUM || node.kind === Kind.LIST || node.kind === Kind.OBJECT) {
      throw new GraphQLError(`${name} cannot represent that`, { nodes: node })
    }
    return literal(node, big ? BigInt(node.value) : valueFromASTUntyped(node))
  }
}

const plain = (errors) => errors.map((e) => ({ message: e.message, locations: e.locations, path: e.path }))

async function judge(c) {
  let document
  try {
    document = parse(c.query)
  } catch (e) {
    return { stage: 'parse', errors: plain([e]) }
  }
  let errors = validate(schema, document, specifiedRules, { maxErrors: 100 })
  if (errors.length) return { stage: 'validate', errors: plain(errors) }
  const operation = getOperationAST(document, c.operation || undefined)
  if (!operation) return { stage: 'operation', errors: [{ message: 'no such operation' }] }
  if (!schema.getRootType(operation.operation)) {
    return { stage: 'operation', errors: plain([new GraphQLError('Schema is not configured for it', { nodes: operation })]) }
  }
  const vars = getVariableValues(schema, operation.variableDefinitions ?? [], c.variables ?? {}, { maxErrors: 50 })
  if (vars.errors) return { stage: 'input', errors: plain(vars.errors) }
  // The arguments are looked at when a subscription's source is made.
  if (operation.operation === 'subscription') {
    const source = await subscribe({
      schema, document, variableValues: c.variables, operationName: c.operation || undefined,
      subscribeFieldResolver: async function* () {},
    })
    if (source.errors) return { stage: 'input', errors: plain(source.errors) }
    await source.return?.()
  }
  const results = (c.roots ?? []).map((rootValue) =>
    execute({ schema, document, rootValue, variableValues: c.variables, operationName: c.operation || undefined }))
  return { stage: 'ok', operation: operation.operation, results: results.map(canonical) }
}

// A result as text: keys in the order they have, of errors what is not words, and what has no order sorted.
function canonical(result) {
  const errors = result.errors?.map((e) => JSON.stringify([e.locations, e.path])).sort()
  const byName = (a, b) => (a.name < b.name ? -1 : 1)
  return JSON.stringify({ errors, data: result.data }, (key, value) =>
    ['types', 'directives', 'possibleTypes'].includes(key) && Array.isArray(value) ? [...value].sort(byName) : value)
}

// A schema as text, types by name, all else in its order.
function print(schema) {
  const types = Object.values(schema.getTypeMap()).filter((t) => !isSpecifiedScalarType(t) && !isIntrospectionType(t))
  return types.sort((a, b) => (a.name < b.name ? -1 : 1)).map(printType).join('\n\n') + '\n'
}

const introspectionQuery = getIntrospectionQuery({
  specifiedByUrl: true, directiveIsRepeatable: true, schemaDescription: true, inputValueDeprecation: true, oneOf: true,
})
const answer = { cases: [], printed: print(schema), introspectionQuery }
for (const c of input.cases) answer.cases.push(await judge(c))
if (input.introspection) {
  answer.introspected = print(buildClientSchema(input.introspection))
}
if (input.ours) answer.ours = input.ours.map((text) => canonical(JSON.parse(text)))
process.stdout.write(JSON.stringify(answer))
