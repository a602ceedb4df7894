import type { ResultOf, VariablesOf } from '@graphql-typed-document-node/core'
import { graphql } from './gql/index.js'

const PaidOrders = graphql(`
  subscription PaidOrders($where: OrdersWhere, $orderBy: [OrdersOrderBy!], $limit: Int, $after: Cursor) {
    ordersChanged(where: $where, initial: true, orderBy: $orderBy, limit: $limit, after: $after) {
      kind
      key
      cursor
      changedFields
      new { id status amount tags payload createdAt }
      old { id }
    }
  }
`)

const variables: VariablesOf<typeof PaidOrders> = {
  orderBy: [{ createdAt: 'DESC' }, { note: 'ASC_NULLS_FIRST' }], limit: 100,
  where: { status: { in: ['paid', 'in_transit'] }, amount: { gte: 10.5 }, or: [{ note: { like: '%x' } }, { tags: { hasAny: ['a'] } }] },
}

let after: string | null = null

export const further = (): VariablesOf<typeof PaidOrders> => ({ ...variables, after })

export function show(event: ResultOf<typeof PaidOrders>): string {
  const { kind, new: row, old, cursor } = event.ordersChanged
  after = cursor ?? after
  switch (kind) {
    case 'INITIAL':
    case 'INSERT':
    case 'UPDATE': {
      const id: string = row!.id
      const amount: string | null | undefined = row!.amount
      return `${id} ${amount} ${row!.tags?.[0]} ${variables.where}`
    }
    case 'DELETE':
      return old!.id
    case 'TRUNCATE':
    case 'SYNCED':
      return ''
    default: {
      const never: never = kind
      return never
    }
  }
}
