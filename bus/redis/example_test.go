package redis_test

import (
	"fmt"

	"github.com/notifyql/notifyql/bus/redis"
)

func ExampleNew() {
	stream, err := redis.New(redis.Options{URL: "redis://localhost:6379/0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stream.Close()
	fmt.Println(stream)
	// Output: the stream notifyql of Redis at localhost:6379
}
