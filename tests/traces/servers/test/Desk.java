// java Desk MODE [BYTES] [BOUND]: a pool of threads; sessions, an LRU of soft size, reports, parsing.
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;

public class Desk {
    public static void main(String[] args) throws Exception {
        String mode = args[0];
        int size = args.length > 1 ? Integer.parseInt(args[1]) : 4000;
        int bound = args.length > 2 ? Integer.parseInt(args[2]) : 20000;
        ConcurrentHashMap<Integer, StringBuilder> sessions = new ConcurrentHashMap<>();
        AtomicInteger served = new AtomicInteger();
        HttpServer server = HttpServer.create(
            new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            int n = served.incrementAndGet();
            StringBuilder text = new StringBuilder();
            while (text.length() < size) text.append("session of ").append(exchange.getRequestURI());
            if (mode.equals("sessions")) sessions.put(n, text);
            if (mode.equals("lru")) sessions.put(n % bound, text);
            TreeMap<String, Integer> words = new TreeMap<>();
            for (String word : text.toString().split("[/ ]")) words.merge(word, 1, Integer::sum);
            if (mode.equals("report") && n % bound == 0) {
                List<byte[]> rows = new ArrayList<>();
                for (int i = 0; i < 2000; i++) rows.add(new byte[size]);
                words.put("rows", rows.size());
            }
            byte[] body = words.toString().getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
    }
}
