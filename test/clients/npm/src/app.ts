import type { ResultOf, VariablesOf } from '@graphql-typed-document-node/core'
import { graphql } from './gql/index.js'

const PaidOrders = graphql(`
  subscription PaidOrders($where: OrdersWhere) {
    ordersChanged(where: $where) {
      kind
      key
      changedFields
      new { id status amount tags payload createdAt }
      old { id }
    }
  }
`)

const variables: VariablesOf<typeof PaidOrders> = {
  where: { status: { in: ['paid', 'in_transit'] }, amount: { gte: 10.5 }, or: [{ note: { like: '%x' } }, { tags: { hasAny: ['a'] } }] },
}

export function show(event: ResultOf<typeof PaidOrders>): string {
  const { kind, new: row, old } = event.ordersChanged
  switch (kind) {
    case 'INSERT':
    case 'UPDATE': {
      const id: string = row!.id
      const amount: string | null | undefined = row!.amount
      return `${id} ${amount} ${row!.tags?.[0]} ${variables.where}`
    }
    case 'DELETE':
      return old!.id
    case 'TRUNCATE':
      return ''
    default: {
      const never: never = kind
      return never
    }
  }
}
