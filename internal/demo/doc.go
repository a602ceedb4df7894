// Package demo is a small shop with two tenants whose orders come in, are paid, shipped, delivered or cancelled: something
// to subscribe to.
//
// Start brings all of it up on a Postgres of its own; Install, Watch and Write are its parts, for a database that is
// there already. What Write does follows from its seed: the same seed on a fresh shop makes the same orders.
//
// Write works in one goroutine, the caller's, over one connection. Others may change the tables meanwhile: an order that
// somebody else has deleted is not missed.
package demo
