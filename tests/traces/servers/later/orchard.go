// orchard MODE [A] [B]: what an orchard's services in Go keep. Leaks:
//
//	tickers   echo; each order is watched by a goroutine and a ticker that nobody stops
//	finished  httprouter; go-memdb, whose finished pickings are marked, not deleted
//	chain     httprouter; the context of each request is derived from that of the one before
//	labels    fasthttp; C strings of labels for a printer's library in C, not freed
//	nearby    echo; what is near a place, by coordinates to the last digit
//
// Healthy:
//
//	arc       echo; golang-lru's adaptive cache of A entries
//	receipts  httprouter; receipts live A seconds, against requests sent twice
//	crates    fasthttp; up to A KiB of crates encoded by gob
//	harvest   echo; each B seconds the harvest of A trees is counted
//	weather   httprouter; the weather of A stations, each renewed now and then
package main

/*
#include <stdlib.h>
#include <string.h>
static size_t print_label(const char *text) { return strlen(text); }
*/
import "C"

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	memdb "github.com/hashicorp/go-memdb"
	lru "github.com/hashicorp/golang-lru"
	"github.com/julienschmidt/httprouter"
	"github.com/labstack/echo/v4"
	"github.com/valyala/fasthttp"
)

type Picking struct {
	Number int
	State  string
	Tree   string
	Note   string
	Apples []Apple
}

type Apple struct {
	Kind   string
	Weight float64
	Remark string
}

var words = strings.Fields("apple pear plum ripe early late row tree ladder crate sour sweet red green storm frost cider")

func prose(n int) string {
	picked := make([]string, n)
	for i := range picked {
		picked[i] = words[rand.Intn(len(words))]
	}
	return strings.Join(picked, " ")
}

func picking(number int) *Picking {
	p := &Picking{number, "open", prose(2), prose(20 + rand.Intn(100)), nil}
	for i := rand.Intn(40); i >= 0; i-- {
		p.Apples = append(p.Apples, Apple{prose(2), rand.Float64(), prose(1 + rand.Intn(25))})
	}
	return p
}

// Some come often.
func regular(number, people int) int {
	x := float64(number) / 1e9
	return int(float64(people) * x * x * x)
}

type answer func(number int) any

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func address() string { return "127.0.0.1:" + os.Getenv("PORT") }

func onEcho(answer answer) {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.GET("/item/:number", func(c echo.Context) error {
		number, _ := strconv.Atoi(c.Param("number"))
		return c.JSON(200, answer(number))
	})
	check(e.Start(address()))
}

func onRouter(answer func(ctx context.Context, number int) any) {
	router := httprouter.New()
	router.GET("/item/:number", func(w http.ResponseWriter, r *http.Request, p httprouter.Params) {
		number, _ := strconv.Atoi(p.ByName("number"))
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer(r.Context(), number))
	})
	check(http.ListenAndServe(address(), router))
}

func onFast(answer answer) {
	check(fasthttp.ListenAndServe(address(), func(ctx *fasthttp.RequestCtx) {
		path := string(ctx.Path())
		number, _ := strconv.Atoi(path[strings.LastIndexByte(path, '/')+1:])
		ctx.SetContentType("application/json")
		json.NewEncoder(ctx).Encode(answer(number))
	}))
}

func tickers() {
	onEcho(func(number int) any {
		order := picking(number)
		ticker := time.NewTicker(20 * time.Second)
		go func() {
			for range ticker.C {
				if order.State == "shipped" {
					fmt.Println("shipped", order.Number)
				}
			}
		}()
		return order
	})
}

func finished() {
	db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{"picking": {
		Name: "picking",
		Indexes: map[string]*memdb.IndexSchema{
			"id":    {Name: "id", Unique: true, Indexer: &memdb.IntFieldIndex{Field: "Number"}},
			"state": {Name: "state", Indexer: &memdb.StringFieldIndex{Field: "State"}},
		},
	}}})
	check(err)
	onRouter(func(_ context.Context, number int) any {
		p := picking(number)
		write := db.Txn(true)
		check(write.Insert("picking", p))
		open, err := write.Get("picking", "state", "open")
		check(err)
		var all []*Picking
		for one := open.Next(); one != nil; one = open.Next() {
			all = append(all, one.(*Picking))
		}
		if len(all) > 20 {
			for _, one := range all[:10] {
				done := *one
				done.State = "finished"
				check(write.Insert("picking", &done))
			}
		}
		write.Commit()
		return p
	})
}

type requestKey struct{ number int }

func chain() {
	var lock sync.Mutex
	ctx := context.Background()
	onRouter(func(_ context.Context, number int) any {
		lock.Lock()
		ctx = context.WithValue(ctx, requestKey{number}, picking(number))
		mine := ctx
		lock.Unlock()
		return mine.Value(requestKey{number})
	})
}

func labels() {
	onFast(func(number int) any {
		p := picking(number)
		printed := 0
		for _, apple := range p.Apples {
			text := C.CString(fmt.Sprintf("%s\n%s\n%s\n%.1f g", p.Note, apple.Kind, apple.Remark, 200*apple.Weight))
			printed += int(C.print_label(text))
		}
		return map[string]int{"number": number, "printed": printed}
	})
}

func nearby() {
	var found sync.Map
	onEcho(func(number int) any {
		place := fmt.Sprintf("%.6f,%.6f", 47+float64(number)/1e9, 9+rand.Float64())
		near, _ := found.LoadOrStore(place, []*Picking{picking(number), picking(number + 1)})
		return near
	})
}

func arc(a int) {
	cache, err := lru.NewARC(a)
	check(err)
	onEcho(func(number int) any {
		who := regular(number, a*4)
		if known, ok := cache.Get(who); ok {
			return known
		}
		made := []*Picking{picking(who), picking(who + 1)}
		cache.Add(who, made)
		return made
	})
}

func receipts(seconds int) {
	type receipt struct {
		at   time.Time
		text []byte
	}
	var lock sync.Mutex
	kept := map[int]receipt{}
	go func() {
		for range time.Tick(5 * time.Second) {
			lock.Lock()
			for number, one := range kept {
				if time.Since(one.at) > time.Duration(seconds)*time.Second {
					delete(kept, number)
				}
			}
			lock.Unlock()
		}
	}()
	onRouter(func(_ context.Context, number int) any {
		p := picking(number)
		text, err := json.Marshal([]*Picking{p, picking(number)})
		check(err)
		lock.Lock()
		kept[number] = receipt{time.Now(), text}
		lock.Unlock()
		return p
	})
}

func crates(kib int) {
	onFast(func(number int) any {
		var packed bytes.Buffer
		encoder := gob.NewEncoder(&packed)
		for until := int(rand.ExpFloat64() * float64(kib) * 256); packed.Len() <= until; {
			check(encoder.Encode(picking(number)))
		}
		return map[string]int{"bytes": packed.Len()}
	})
}

func harvest(trees, seconds int) {
	var lock sync.RWMutex
	best := []*Picking{}
	go func() {
		for range time.Tick(time.Duration(seconds) * time.Second) {
			all, kinds := make([]*Picking, trees), map[string][]*Apple{}
			for k := range all {
				all[k] = picking(k)
				for i := range all[k].Apples {
					one := &all[k].Apples[i]
					kinds[one.Kind] = append(kinds[one.Kind], one)
				}
			}
			sort.Slice(all, func(i, j int) bool { return len(all[i].Apples) > len(all[j].Apples) })
			lock.Lock()
			best = append([]*Picking{}, all[:5]...)
			lock.Unlock()
		}
	}()
	onEcho(func(number int) any {
		lock.RLock()
		defer lock.RUnlock()
		return []any{picking(number), len(best)}
	})
}

func weather(stations int) {
	var lock sync.Mutex
	last := map[int]*Picking{}
	onRouter(func(_ context.Context, number int) any {
		lock.Lock()
		defer lock.Unlock()
		last[number%stations] = picking(number)
		return last[number%stations]
	})
}

func main() {
	size := func(k int) (n int) {
		if len(os.Args) > k {
			n, _ = strconv.Atoi(os.Args[k])
		}
		return
	}
	a, b := size(2), size(3)
	switch os.Args[1] {
	case "tickers":
		tickers()
	case "finished":
		finished()
	case "chain":
		chain()
	case "labels":
		labels()
	case "nearby":
		nearby()
	case "arc":
		arc(a)
	case "receipts":
		receipts(a)
	case "crates":
		crates(a)
	case "harvest":
		harvest(a, b)
	case "weather":
		weather(a)
	}
}
