// mill MODE [BYTES] [BOUND]: what Go services keep.
//
//	tickers   a goroutine with a ticker a request
//	subslice  a few bytes of a large slice in a list
//	grow      one slice that is appended to
//	offheap   anonymous mappings that are not given back
//	late      pages in a map, after BOUND seconds
//	lru       BOUND pages by container/list
//	ttl       pages live BOUND seconds
//	pool      buffers of a sync.Pool, of all sizes
//	parse     JSON there and back
//	batch     every BOUND seconds 2000 pages are sorted
package main

import (
	"container/list"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

type page struct {
	Name string
	Rows []string
	at   time.Time
}

func number(index, otherwise int) int {
	if len(os.Args) > index {
		value, _ := strconv.Atoi(os.Args[index])
		return value
	}
	return otherwise
}

func made(name string, size int) *page {
	rows := make([]string, size/40)
	for n := range rows {
		rows[n] = fmt.Sprintf("row %d of %f", n, rand.Float64())
	}
	return &page{name, rows, time.Now()}
}

func main() {
	mode, size, bound := os.Args[1], number(2, 4000), number(3, 10000)
	life, began := time.Duration(bound)*time.Second, time.Now()
	var lock sync.Mutex
	var heads [][]byte
	var grown []byte
	var mapped [][]byte
	held := map[int]*page{}
	recent, order, places := list.New(), list.New(), map[string]*list.Element{}
	pool := sync.Pool{New: func() any { return make([]byte, 0, size) }}
	served := 0
	if mode == "batch" {
		go func() {
			for range time.Tick(life) {
				pages := make([]*page, 2000)
				for n := range pages {
					pages[n] = made("batch", size)
				}
				sort.Slice(pages, func(i, j int) bool { return pages[i].Rows[0] < pages[j].Rows[0] })
			}
		}()
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		lock.Lock()
		defer lock.Unlock()
		served++
		one := made(request.URL.Path, size)
		switch mode {
		case "tickers":
			go func() {
				for range time.Tick(time.Hour) {
					fmt.Println(one.Name)
				}
			}()
		case "subslice":
			large := append([]byte("head"), make([]byte, size)...)
			heads = append(heads, large[:16])
		case "grow":
			grown = append(grown, make([]byte, size)...)
		case "offheap":
			memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
			if err == nil {
				for n := 0; n < size; n += 4096 {
					memory[n] = 1
				}
				mapped = append(mapped, memory)
			}
		case "late":
			if time.Since(began) > life {
				held[served] = one
			}
		case "lru":
			key := strconv.Itoa(rand.Intn(3 * bound))
			if place := places[key]; place != nil {
				order.MoveToFront(place)
			} else {
				one.Name = key
				places[key] = order.PushFront(one)
				if order.Len() > bound {
					delete(places, order.Remove(order.Back()).(*page).Name)
				}
			}
		case "ttl":
			recent.PushBack(one)
			for time.Since(recent.Front().Value.(*page).at) > life {
				recent.Remove(recent.Front())
			}
		case "pool":
			buffer := pool.Get().([]byte)[:0]
			buffer = append(buffer, make([]byte, rand.Intn(8*size))...)
			pool.Put(buffer)
		}
		text, _ := json.Marshal(one)
		var back page
		json.Unmarshal(text, &back)
		fmt.Fprintln(response, len(back.Rows), len(mapped), len(heads))
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
