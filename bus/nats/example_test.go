package nats_test

import (
	"fmt"

	"github.com/notifyql/notifyql/bus/nats"
)

func ExampleNew() {
	stream, err := nats.New(nats.Options{URL: "nats://a.example:4222,nats://b.example:4222", Replicas: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()
	fmt.Println(stream)
	// Output: the stream notifyql of NATS at a.example:4222, b.example:4222
}
