// Package sse speaks GraphQL over Server-Sent Events, as https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
// has it: a connection for each operation, or one reserved connection for many. It serves what package ws serves, behind
// the same Service, Session and Stream.
//
// An event stream is written by the goroutine of its HTTP request, and by nobody else; there is no other goroutine. Other
// requests that belong to a reserved connection add and stop its operations, and wakes mark them ready; all of that is
// guarded by the connection's lock, which is never held across a call to the service or a write.
//
// The invariants are those of package ws: a Stream's Next and Close are never called at the same time, every Stream is
// closed once, before its Session; after an operation has ended nothing of it is sent; what waits is in the service, and
// pulled only when the network has taken what was pulled before.
package sse
