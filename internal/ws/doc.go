// Package ws speaks GraphQL over WebSocket. A protocol is a machine without input and output: messages go in, messages
// and one thing to do come out. Serve drives the machine over a Socket, which any WebSocket library can be; Accept makes
// one of coder/websocket. What is served is behind Service, Session and Stream: this package knows no GraphQL beyond the
// fields of a request.
//
// Who runs when, for one connection:
//
//   - the goroutine that called Serve reads: it alone calls Socket.Read, Service.Connect and Session.Subscribe;
//   - a writer runs only while something waits: it alone calls Socket.Write and Stream.Next. It is started by whoever
//     makes something wait, a wake from the service included, and ends when nothing does;
//   - a timer watches the first message, the pongs and the writes; it never touches the machine's subscriptions.
//
// Invariants:
//
//   - conn.mu guards the machine and the queues. It is never held across a call to the socket or the service.
//   - A Stream's Next and Close are never called at the same time, and Next not after Close. Every Stream is closed
//     exactly once, before Session.Close.
//   - After an operation's complete or error, and once its complete from the client was handled, no next of it is made.
//   - What waits is in the service, not here: a subscription is only marked ready, and pulled from when the socket has
//     taken what was pulled before. Beside that wait at most one batch of messages and a bounded queue of control messages.
//   - Serve returns after everything it started has ended.
package ws
