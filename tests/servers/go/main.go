// net/http. server [HOST [PORT]], or: fd NUMBER
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

var (
	lock sync.Mutex
	kept [][]byte
)

func argument(index int, otherwise string) string {
	if len(os.Args) > index {
		return os.Args[index]
	}
	return otherwise
}

func number(request *http.Request, name string) int {
	value, _ := strconv.Atoi(request.URL.Query().Get(name))
	return value
}

func answer(response http.ResponseWriter, request *http.Request) {
	switch request.URL.Path {
	case "/", "/pid":
	case "/leak":
		block := make([]byte, number(request, "kib")*1024)
		for at := 0; at < len(block); at += 4096 {
			block[at] = 1
		}
		lock.Lock()
		kept = append(kept, block)
		lock.Unlock()
	case "/slow":
		time.Sleep(time.Duration(number(request, "ms")) * time.Millisecond)
	case "/hang":
		// A busy goroutine would not stop the others: stop the process. This one may run on for a
		// moment, and must not answer.
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		select {}
	default:
		http.NotFound(response, request)
		return
	}
	fmt.Fprintf(response, "%d\n", os.Getpid())
}

func listen() (net.Listener, error) {
	host, port := argument(1, "127.0.0.1"), argument(2, "8000")
	if host != "fd" {
		return net.Listen("tcp", net.JoinHostPort(host, port))
	}
	descriptor, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	return net.FileListener(os.NewFile(uintptr(descriptor), "listener"))
}

func main() {
	listener, err := listen()
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(answer)}
	done := make(chan struct{})
	go func() {
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		<-stop
		server.Shutdown(context.Background())
		close(done)
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-done
}
