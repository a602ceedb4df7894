// Package limit bounds what one user, tenant or address may have open, and how fast it may come: Count and Rate. Both are
// told their keys, and Rate the time; neither has a goroutine. What they hold is bounded, whoever comes under however many
// names: a Count holds keys with something open, a Rate a number of keys that is given.
//
// Exceeded is the one form in which a client is told.
package limit
