// Package migrate brings a database's schema notifyql to the version that this program has in package migrations, takes
// it away again, prints it for an administrator, and tells whether a program may run on it.
//
// It runs golang-migrate over the embedded files. What holds beside:
//
//   - The version is in the table notifyql.migrations, so that an application's own golang-migrate is not touched. The
//     schema with this table is made before the first migration and dropped after the last one down.
//   - A migration and its version are one transaction: there is no dirty version, whatever fails and whoever is killed.
//   - A migration acts as the schema's owner, a role nobody logs in as. Whoever may take that role gets it for the
//     transaction and gives it back in it.
//   - Locks are waited for only briefly, and asked for again: a migration never queues writers behind a long transaction.
//   - One migration at a time in a database: an advisory lock, held by the session that migrates.
//
// A database is used through two connections, both opened and closed by the call. No goroutine outlives it.
package migrate
