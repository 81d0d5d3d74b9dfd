package node

import (
	"context"
	"net"
	"time"
)

// keepAlive asks a client that has been silent for two minutes whether it is still there,
// and gives it up after another minute without an answer. Go's default asks four times a
// minute: with ten thousand idle connections that is 670 packets a second, and as many
// answers, in the way of those who work. Kafka leaves it to the system, two hours as a rule.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 15 * time.Second, Count: 4}

// listenTCP binds addr.
func listenTCP(addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	return lc.Listen(context.Background(), "tcp", addr)
}
