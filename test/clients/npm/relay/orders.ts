declare function graphql(text: TemplateStringsArray): unknown

export const subscription = graphql`
  subscription ordersSubscription($where: OrdersWhere) {
    ordersChanged(where: $where) {
      kind
      key
      new { id status amount ...orders_row }
      old { id }
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
