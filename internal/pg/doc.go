// Package pg is the node's side of the database: it listens, sweeps the log, reads it for readers, follows the catalog and
// publishes events. It does what feed asks and answers what subs' History asks; it decides nothing about order or duplicates
// beyond what the log's rows say.
//
// # Connections
//
// The listener owns one direct connection (application_name "notifyql listener"). Everything else runs on a small pool
// (application_name "notifyql") that may go through a pooler: each of its transactions is complete in itself, and its session
// is never relied upon.
//
// # Invariants
//
//   - Opened carries a snapshot that was taken in a READ ONLY transaction that began after LISTEN had committed. Whatever that
//     snapshot does not see will be notified, or is in the log.
//   - Every snapshot comes from a transaction without an xid, on a primary: a snapshot calls its own transaction seen, and a
//     standby's leaves out what runs on the primary.
//   - Swept carries all rows that its snapshot sees and that are not in the frontier it was asked from, each transaction whole
//     (but for what the frontier has of it), ordered by their last seq. Rows that the snapshot does not see although the row
//     is there (a restored dump) are left out.
//   - A notification is never dropped in silence: one that can't be read becomes a marker for "anything", so that the node sweeps.
//
// # Goroutines
//
// Run starts the listener, the sweeper, the heart, the follower of the catalog and the turner of the log's ring, and returns
// when all have ended. Each calls emit by itself, so emit must be safe for concurrent use; what one of them emits stays in its
// order. Do, Txn and Publish may be called from anywhere; Do never blocks.
package pg
