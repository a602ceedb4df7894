// Package orders is a client that genqlient generates from the schema.
package orders

import (
	"context"

	"github.com/Khan/genqlient/graphql"
)

// Paid subscribes to a tenant's paid orders over 100: from a cursor on, or without one first to those there are, the newest first.
func Paid(ctx context.Context, client graphql.WebSocketClient, after *string) (<-chan PaidOrdersWsResponse, error) {
	least := "100"
	paid := OrderStatusPaid
	newest := SortOrderDesc
	events, _, err := PaidOrders(ctx, client, &OrdersWhere{
		Status: &OrderStatusWhere{Eq: &paid},
		Amount: &DecimalWhere{Gt: &least},
	}, []OrdersOrderBy{{CreatedAt: &newest}}, after)
	return events, err
}
