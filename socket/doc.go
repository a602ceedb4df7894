// Package socket is what an adapter for a WebSocket library stands on, beside the library: the connection below it. On a Conn
// many messages become one write, no frame waits for a slow peer while a lock of the library's is held, and the peer gets
// the close frame before the connection is gone. The library shakes hands, and makes and reads frames.
//
// The adapters for gorilla/websocket and gws, modules below this package, are each a page. docs/sockets.md has a template.
package socket
