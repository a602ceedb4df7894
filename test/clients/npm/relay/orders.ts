declare function graphql(text: TemplateStringsArray): unknown

export const subscription = graphql`
  subscription ordersSubscription($where: OrdersWhere, $orderBy: [OrdersOrderBy!], $after: Cursor) {
    ordersBatch(where: $where, initial: true, orderBy: $orderBy, after: $after) {
      synced
      cursor
      changes { kind key new { id status amount ...orders_row } old { id } }
    }
  }
`

export const row = graphql`
  fragment orders_row on Orders {
    note
    createdAt
    tags
  }
`
