// quay MODE [BYTES] [BOUND]: chi, go-cache and golang-lru, as a quay's services have them.
//
//	contexts  a goroutine a request that waits for a context that nobody cancels
//	forever   go-cache without expiry
//	timers    a timer of an hour a request that holds its cargo
//	labels    counters in a map, by path, with their last cargo
//	expiring  go-cache, entries live BOUND seconds
//	twoqueue  golang-lru's 2Q cache of BOUND entries, some asked for more often
//	gzip      answers are compressed, with writers made anew
//	fanout    twenty goroutines a request that sort, and end
package main

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/go-chi/chi"
	lru "github.com/hashicorp/golang-lru"
	gocache "github.com/patrickmn/go-cache"
)

type cargo struct {
	Name  string
	Boxes []string
}

type counter struct {
	n    int
	last *cargo
}

func number(index, otherwise int) int {
	if len(os.Args) > index {
		value, _ := strconv.Atoi(os.Args[index])
		return value
	}
	return otherwise
}

func main() {
	mode, size, bound := os.Args[1], number(2, 4000), number(3, 100)
	made := func() *cargo {
		one := &cargo{Name: fmt.Sprint("cargo ", rand.Float64())}
		for k := 0; k < size/64; k++ {
			one.Boxes = append(one.Boxes, fmt.Sprint("box ", k, " of ", rand.Float64(), rand.Float64()))
		}
		return one
	}
	forever := gocache.New(gocache.NoExpiration, 0)
	expiring := gocache.New(time.Duration(bound)*time.Second, 10*time.Second)
	twoqueue, _ := lru.New2Q(bound)
	labels, lock := map[string]*counter{}, sync.Mutex{}
	router := chi.NewRouter()
	router.Get("/*", func(w http.ResponseWriter, r *http.Request) {
		one := made()
		switch mode {
		case "contexts":
			ctx, cancel := context.WithCancel(context.Background())
			_ = cancel
			go func() {
				<-ctx.Done()
				fmt.Println(one.Name)
			}()
		case "forever":
			forever.SetDefault(r.URL.Path, one)
		case "timers":
			time.AfterFunc(time.Hour, func() { fmt.Println(one.Name) })
		case "labels":
			lock.Lock()
			labels[r.URL.Path] = &counter{1, one}
			lock.Unlock()
		case "expiring":
			expiring.SetDefault(r.URL.Path, one)
		case "twoqueue":
			key := int(rand.ExpFloat64() * float64(bound))
			if _, known := twoqueue.Get(key); !known {
				twoqueue.Add(key, one)
			}
		case "gzip":
			packed, _ := gzip.NewWriterLevel(io.Discard, 9)
			json.NewEncoder(packed).Encode(one)
			packed.Close()
		case "fanout":
			var all sync.WaitGroup
			for k := 0; k < 20; k++ {
				all.Add(1)
				go func() {
					defer all.Done()
					sort.Strings(made().Boxes)
				}()
			}
			all.Wait()
		}
		json.NewEncoder(w).Encode(one.Boxes[:10])
	})
	if err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), router); err != nil {
		panic(err)
	}
}
