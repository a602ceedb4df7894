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
// In process, Subscribe gives a Stream whose Next returns the next ExecutionResult as JSON text, and Publish sends an
// event that is no row.
package notifyql
