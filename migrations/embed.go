// Package migrations holds the SQL of the schema notifyql, in the files golang-migrate wants: each is one transaction,
// written to run as whoever may create roles and schemas in the database, and each has a down that undoes it wholly.
//
// What surrounds each of them (the right to act as the schema's owner, taken and given back; the version; short lock
// timeouts) is in package internal/pg/migrate, which is also the way to run or print them.
package migrations

import "embed"

// FS holds the files.
//
//go:embed *.sql
var FS embed.FS
