module github.com/notifyql/notifyql/bus/redis

go 1.26.0

require (
	github.com/gomodule/redigo v1.9.3
	github.com/notifyql/notifyql v0.0.0
	go.uber.org/goleak v1.3.0
)

require github.com/stretchr/testify v1.12.1 // indirect

replace github.com/notifyql/notifyql => ../..
