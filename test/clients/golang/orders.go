// Package orders is a client that genqlient generates from the schema.
package orders

import (
	"context"

	"github.com/Khan/genqlient/graphql"
)

// Paid subscribes to a tenant's paid orders over 100.
func Paid(ctx context.Context, client graphql.WebSocketClient) (<-chan PaidOrdersWsResponse, error) {
	least := "100"
	paid := OrderStatusPaid
	events, _, err := PaidOrders(ctx, client, &OrdersWhere{
		Status: &OrderStatusWhere{Eq: &paid},
		Amount: &DecimalWhere{Gt: &least},
	})
	return events, err
}
