// One channel over the Centrifuge library, the engine of Centrifugo: each line that comes on the feed is published.
//
// `-batching` sets what gathers messages at the price of latency: a write delay, and batches of the channel.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"
)

const (
	channel   = "load-0"
	delay     = 20 * time.Millisecond
	batchSize = 64
)

func main() {
	batching := flag.Bool("batching", false, "gather messages")
	flag.Parse()
	node := newNode(*batching)
	clients, lines := listen(), listen()
	fmt.Printf("{\"port\":%d,\"feed\":%d}\n", port(clients), port(lines))
	go feed(node, lines)
	handler := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{UseWriteBufferPool: *batching})
	log.Fatal(http.Serve(clients, handler))
}

func newNode(batching bool) *centrifuge.Node {
	config := centrifuge.Config{}
	// Keep-alives are off, as with all peers.
	reply := centrifuge.ConnectReply{PingPongConfig: &centrifuge.PingPongConfig{PingInterval: -1}}
	if batching {
		reply.WriteDelay, reply.ReplyWithoutQueue, reply.MaxMessagesInFrame = delay, true, -1
		config.GetChannelBatchConfig = func(string) centrifuge.ChannelBatchConfig {
			return centrifuge.ChannelBatchConfig{MaxSize: batchSize, MaxDelay: delay}
		}
	}
	node, err := centrifuge.New(config)
	must(err)
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		mine := reply
		mine.Credentials = &centrifuge.Credentials{}
		return mine, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, done centrifuge.SubscribeCallback) {
			done(centrifuge.SubscribeReply{}, nil)
		})
	})
	must(node.Run())
	return node
}

func feed(node *centrifuge.Node, lines net.Listener) {
	for {
		publisher, err := lines.Accept()
		must(err)
		scanner := bufio.NewScanner(publisher)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			data := append(append([]byte{'"'}, scanner.Bytes()...), '"') // its clients expect JSON
			_, err := node.Publish(channel, data)
			must(err)
		}
	}
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	return listener
}

func port(listener net.Listener) int {
	return listener.Addr().(*net.TCPAddr).Port
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
