// Package bus says what a message broker must do to carry changes from the one server that reads Postgres to all servers
// that have sockets. Adapters for brokers are modules of their own; package bustest holds one to what is said here.
//
// A broker is trusted with nothing but order. What is lost in it, comes twice or comes too late is noticed by those who
// read, since whoever appends numbers the records, and is made good from the change log in Postgres. So it needs no
// durable storage, and may be emptied, restarted or replaced at any time.
package bus

import (
	"context"
	"errors"
)

// Stream is one ordered sequence of records in a broker, the same for all servers that open it under the same name. It is
// safe for use by several goroutines.
type Stream interface {
	// Append adds a record behind all that were added before, and returns when the broker has it. After an error the record
	// may be there or not, now or a little later. It keeps no reference to record. It is called by one goroutine at a time.
	// When ctx ends it returns soon, with an error.
	Append(ctx context.Context, record []byte) error

	// Open begins to read: of what is appended after Open has returned, by whomever, everything is read, unless the Reader
	// fails. Of what was appended before, nothing has to be. A broker that can't be reached is an error.
	Open(ctx context.Context) (Reader, error)

	// MaxRecord is how many bytes a record may have.
	MaxRecord() int

	// String names the stream in logs: without a secret.
	String() string

	// Close releases what the stream holds. Readers must have been closed before.
	Close() error
}

// Reader reads a Stream from where it was opened. One goroutine uses it.
type Reader interface {
	// Read waits until there are records, and returns those at hand, in their order: at least one, and of all together no more
	// than a few MiB. The records are the caller's until the next call. An error ends the reader: the connection is lost, or
	// records were passed over (ErrGap). The same record may come twice, and records may come again from an earlier one on.
	// A connection that is dead without a word must be noticed in a few seconds. When ctx ends, Read returns soon.
	Read(ctx context.Context) ([][]byte, error)

	// Close ends it. It may be called when Read has failed, and only once.
	Close()
}

// ErrGap is what Read returns, perhaps wrapped, when records were removed before they were read.
var ErrGap = errors.New("records were removed from the stream before they were read")
