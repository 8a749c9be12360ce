// server leak|lru|churn|jobs [BYTES] [BOUND]: a small service on net/http.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
)

func number(index, otherwise int) int {
	if len(os.Args) > index {
		value, _ := strconv.Atoi(os.Args[index])
		return value
	}
	return otherwise
}

func main() {
	mode, size, bound := os.Args[1], number(2, 4000), number(3, 10000)
	var lock sync.Mutex
	held := map[int][]byte{}
	served := 0
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		rows := make([]map[string]string, 0, 100)
		for i := 0; i < 100; i++ {
			rows = append(rows, map[string]string{"row": fmt.Sprint(i), "of": request.URL.Path})
		}
		body, _ := json.Marshal(rows)
		fill := make([]byte, size)
		for i := 0; i < size; i += 512 {
			fill[i] = 1
		}
		lock.Lock()
		served++
		switch mode {
		case "leak":
			held[served] = fill
		case "lru":
			held[served%bound] = fill
		case "jobs":
			if served%bound == 0 {
				all := make([][]byte, 3000)
				for i := range all {
					all[i] = append([]byte(nil), fill...)
				}
				held[0] = all[len(all)-1]
			}
		}
		lock.Unlock()
		response.Write(body)
	})
	panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
