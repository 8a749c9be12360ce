// smithy MODE [A]: what a smithy keeps, under cpp-httplib.
//   orders  leak: an order and its customer hold each other by shared_ptr
//   stock   the A pieces that were asked for last
#include <cmath>
#include <cstdlib>
#include <httplib.h>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

static const char *words[] = {"iron", "anvil", "hammer", "coal", "horse", "shoe", "gate", "hinge", "nail", "blade", "forge", "heat"};

static std::string prose(int n) {
    std::string text;
    while (n--) text += std::string(words[rand() % 12]) + " ";
    return text;
}

struct Order;

struct Customer {
    std::string name = prose(2), letter = prose(40 + rand() % 400);
    std::vector<std::shared_ptr<Order>> orders;
};

struct Order {
    std::string piece = prose(3), drawing = prose(200 + rand() % 600);
    std::shared_ptr<Customer> customer;
};

static std::string order() {
    auto customer = std::make_shared<Customer>();
    for (int k = rand() % 3; k >= 0; k--) {
        auto made = std::make_shared<Order>();
        made->customer = customer;
        customer->orders.push_back(made);
    }
    return customer->orders[0]->piece + customer->letter;
}

static std::string stock(long number, size_t size) {
    static std::mutex lock;
    static std::list<std::pair<int, std::string>> recent;
    static std::unordered_map<int, decltype(recent)::iterator> found;
    std::lock_guard<std::mutex> guard(lock);
    int key = int(3.0 * size * std::pow(number / 1e9, 2));
    auto at = found.find(key);
    if (at != found.end()) {
        recent.splice(recent.begin(), recent, at->second);
    } else {
        recent.emplace_front(key, prose(200 + rand() % 3000));
        found[key] = recent.begin();
        if (recent.size() > size) {
            found.erase(recent.back().first);
            recent.pop_back();
        }
    }
    return recent.front().second;
}

int main(int, char **args) {
    bool leaks = std::string(args[1]) == "orders";
    size_t size = leaks ? 0 : std::atoi(args[2]);
    httplib::Server server;
    server.new_task_queue = [] { return new httplib::ThreadPool(3); };
    server.set_keep_alive_max_count(1000000);
    server.Get(R"(/item/(\d+))", [&](const httplib::Request &request, httplib::Response &response) {
        response.set_content(leaks ? order() : stock(std::stol(request.matches[1]), size), "text/plain");
    });
    server.listen("127.0.0.1", std::atoi(std::getenv("PORT")));
}
