// ferry MODE [A] [B]: a ferry line's services in Go. Leaks:
//
//	quotes     gin; asks three harbours, takes the first answer; the others send to nobody
//	limiters   gin; a rate limiter for each address
//	prefixes   a map whose keys are the first bytes of documents, which they keep whole
//	bodies     bodies of answers from upstream that nobody closes (every A-th)
//	sessions   gorilla/mux; carts by session, dropped at check-out only
//
// Healthy:
//
//	bigcache   at most A MiB, entries live B seconds
//	ristretto  at most A KiB of cost
//	manifests  buffers of a pool, up to A KiB of JSON gzipped
//	timetable  every B seconds a timetable of A sailings is built anew
//	crossings  each request is at sea for A milliseconds with B KiB
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/allegro/bigcache"
	"github.com/dgraph-io/ristretto"
	"github.com/gin-gonic/gin"
	"github.com/gorilla/mux"
	"golang.org/x/time/rate"
)

type Sailing struct {
	Number     int
	From, To   string
	Departure  time.Time
	Passengers []Passenger
}

type Passenger struct{ Name, Cabin, Remark string }

var words = strings.Fields("deck cabin window inner quiet with dog and bicycle late early to the island by night over sea")

func prose(n int) string {
	var b strings.Builder
	for i := 0; i < n; i++ {
		b.WriteString(words[rand.Intn(len(words))])
		b.WriteByte(' ')
	}
	return b.String()
}

func sailing(number int) *Sailing {
	s := &Sailing{number, prose(1), prose(1), time.Now(), nil}
	for i := rand.Intn(60); i >= 0; i-- {
		s.Passengers = append(s.Passengers, Passenger{prose(2), fmt.Sprint(i), prose(1 + rand.Intn(30))})
	}
	return s
}

func number(r *http.Request) int {
	n, _ := strconv.Atoi(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	return n
}

// Some come often.
func user(n, users int) int {
	x := float64(n) / 1e9
	return int(float64(users) * x * x)
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}

func plain(handle http.HandlerFunc) http.Handler { return handle }

func engine(handle gin.HandlerFunc, uses ...gin.HandlerFunc) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	g.Use(uses...)
	g.GET("/item/:number", handle)
	return g
}

func item(c *gin.Context) { c.JSON(200, sailing(number(c.Request))) }

func quotes() http.Handler {
	ask := func(harbour, n int, answers chan<- *Sailing) {
		found := sailing(n + harbour)
		time.Sleep(time.Duration(1+rand.Intn(20)) * time.Millisecond)
		answers <- found
	}
	return engine(func(c *gin.Context) {
		answers := make(chan *Sailing)
		for harbour := 0; harbour < 3; harbour++ {
			go ask(harbour, number(c.Request), answers)
		}
		c.JSON(200, <-answers)
	})
}

func limiters() http.Handler {
	type visitor struct {
		limiter *rate.Limiter
		last    *Sailing
		seen    []time.Time
	}
	var lock sync.Mutex
	visitors := map[string]*visitor{}
	return engine(item, func(c *gin.Context) {
		n := number(c.Request)
		address := fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255)
		lock.Lock()
		v := visitors[address]
		if v == nil {
			v = &visitor{limiter: rate.NewLimiter(5, 10)}
			visitors[address] = v
		}
		v.last, v.seen = sailing(n), append(v.seen, time.Now())
		lock.Unlock()
		if !v.limiter.Allow() {
			c.AbortWithStatus(429)
		}
	})
}

func prefixes() http.Handler {
	var lock sync.Mutex
	seen := map[string]int{}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		text := fmt.Sprintf("%09d %s", number(r), prose(300+rand.Intn(1500)))
		lock.Lock()
		seen[text[:9]]++
		lock.Unlock()
		reply(w, len(text))
	})
}

func bodies(every int) http.Handler {
	upstream := httptest.NewServer(plain(func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i < 6; i++ {
			reply(w, sailing(number(r)))
		}
	}))
	return plain(func(w http.ResponseWriter, r *http.Request) {
		answer, err := http.Get(upstream.URL + r.URL.Path)
		if err != nil {
			http.Error(w, err.Error(), 502)
			return
		}
		if number(r)%every == 0 { // the partner whose answer is only looked at by its status
			reply(w, answer.StatusCode)
			return
		}
		defer answer.Body.Close()
		io.Copy(w, answer.Body)
	})
}

func sessions() http.Handler {
	var lock sync.RWMutex
	carts := map[string][]*Sailing{}
	r := mux.NewRouter()
	r.HandleFunc("/item/{number}", func(w http.ResponseWriter, r *http.Request) {
		n := number(r)
		session, s := fmt.Sprint("session-", user(n, 400000)), sailing(n)
		lock.Lock()
		defer lock.Unlock()
		carts[session] = append(carts[session], s)
		if n%10 == 0 { // one in ten checks out
			delete(carts, session)
		}
		reply(w, s)
	})
	return r
}

func big(mib, seconds int) http.Handler {
	config := bigcache.DefaultConfig(time.Duration(seconds) * time.Second)
	config.HardMaxCacheSize, config.CleanWindow, config.Shards, config.Verbose = mib, time.Second, 64, false
	cache, err := bigcache.NewBigCache(config)
	if err != nil {
		panic(err)
	}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		text, err := cache.Get(r.URL.Path)
		if err != nil {
			text, _ = json.Marshal(sailing(number(r)))
			cache.Set(r.URL.Path, text)
		}
		w.Write(text)
	})
}

func risk(kib int) http.Handler {
	cache, err := ristretto.NewCache(&ristretto.Config{NumCounters: 100000, MaxCost: int64(kib) << 10, BufferItems: 64})
	if err != nil {
		panic(err)
	}
	return engine(func(c *gin.Context) {
		key := user(number(c.Request), 30000)
		if found, ok := cache.Get(key); ok {
			c.Data(200, "application/json", found.([]byte))
			return
		}
		text, _ := json.Marshal([]*Sailing{sailing(key), sailing(key), sailing(key)})
		cache.Set(key, text, int64(len(text)))
		c.Data(200, "application/json", text)
	})
}

func manifests(kib int) http.Handler {
	pool := sync.Pool{New: func() any { return new(bytes.Buffer) }}
	return plain(func(w http.ResponseWriter, r *http.Request) {
		b := pool.Get().(*bytes.Buffer)
		defer pool.Put(b)
		b.Reset()
		for until := rand.Intn(kib << 10); b.Len() <= until; {
			json.NewEncoder(b).Encode(sailing(number(r)))
		}
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		packed.Write(b.Bytes())
		packed.Close()
	})
}

func timetable(sailings, seconds int) http.Handler {
	var current atomic.Value
	current.Store([]*Sailing{sailing(1)})
	go func() {
		for range time.Tick(time.Duration(seconds) * time.Second) {
			next := make([]*Sailing, sailings)
			for i := range next {
				next[i] = sailing(i)
			}
			sort.Slice(next, func(i, j int) bool { return len(next[i].Passengers) < len(next[j].Passengers) })
			current.Store(next)
		}
	}()
	return engine(func(c *gin.Context) {
		list := current.Load().([]*Sailing)
		c.JSON(200, list[number(c.Request)%len(list)])
	})
}

func crossings(milliseconds, kib int) http.Handler {
	return plain(func(w http.ResponseWriter, r *http.Request) {
		cargo := bytes.Repeat([]byte{1}, 1+rand.Intn(kib<<10))
		time.AfterFunc(time.Duration(rand.ExpFloat64()*float64(milliseconds))*time.Millisecond, func() { cargo[0]++ })
		reply(w, sailing(number(r)))
	})
}

func main() {
	size := func(i int) int {
		if len(os.Args) <= i {
			return 0
		}
		n, _ := strconv.Atoi(os.Args[i])
		return n
	}
	a, b := size(2), size(3)
	handler := map[string]func() http.Handler{
		"quotes": quotes, "limiters": limiters, "prefixes": prefixes, "sessions": sessions,
		"bodies":    func() http.Handler { return bodies(a) },
		"bigcache":  func() http.Handler { return big(a, b) },
		"ristretto": func() http.Handler { return risk(a) },
		"manifests": func() http.Handler { return manifests(a) },
		"timetable": func() http.Handler { return timetable(a, b) },
		"crossings": func() http.Handler { return crossings(a, b) },
	}[os.Args[1]]()
	fmt.Fprintln(os.Stderr, http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), handler))
}
