// Package notifyql turns database writes into GraphQL subscription events.
//
// A row changes in Postgres; a trigger logs the change and notifies; the server hands it to the subscriptions of the
// right tenant and streams it to them over graphql-transport-ws, or in process as pre-serialized bytes. Nothing is to
// be written per table:
//
//	select notifyql.watch('orders');
//
//	subscription { ordersChanged(where: {status: {eq: "paid"}}) { kind new { id amount } } }
//
// A Server is made with New, runs in Run, and is mounted with Handler:
//
//	srv, err := notifyql.New(notifyql.Config{DatabaseURL: url, Auth: notifyql.Trust()})
//	go srv.Run(ctx)
//	router.Mount("/graphql", srv.Handler())
//
// # Who sees what
//
// [Config.Auth] says who a client is: [JWT], [Hook], [Trust], or a function of the program's own. A subscription sees the rows of its
// [Identity]'s tenants. OnConnect, OnSubscribe and OnDisconnect are asked or told on the way; OnSubscribe can narrow what is seen.
//
// # In process
//
// [Server.Subscribe] gives a [Stream], whose Next returns the next ExecutionResult as JSON text.
//
// # Events that are no rows, and fields of one's own
//
// Publish, and within a transaction of the program's own [PublishTx] and [PublishSQL], send an [Event] to the subscriptions of its channel. A
// [Field] gives such a channel a type, by SDL and a resolver in Go, or adds a relation to the rows of a table. With [MemoryBus] that needs no
// database.
//
// # Other sockets and other buses
//
// [Config.Upgrade] has the sockets of Handler be those of any WebSocket library, [Server.ServeSocket] takes those that the program accepts
// in its own way; packages socket and sockettest are for whoever adapts another library. [StreamBus] has one node read
// Postgres for all, by a broker.
//
// # Operating
//
// [Server.HealthHandler] and [Server.OpsHandler] have /health, /livez, /metrics and /errors; Stats, Health and Connections are the same as values.
// Config takes the program's own pool, registry of metrics, logger and tracer.
package notifyql
