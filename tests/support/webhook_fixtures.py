"""What others have signed: bodies, secrets and signatures as they stand in public places, each with its source.

Facts, taken over byte for byte; nothing here was made by code of ours.
"""

# github.com/cardpay/java-sdk-v3 (MIT), commit c1de253109fe8f4b1d67c4c95498afa7552f9d66, src/test/resources/fixtures:
# paymentCallback.json and .signature, refundCallback.json and .signature, paymentCallback_invalid.signature; the secret
# is CALLBACK_SECRET of src/test/java/com/cardpay/sdk/Constants.java.
UNLIMIT_SECRET = b"7Kn2FBt7SRyrqXH5"
UNLIMIT_PAYMENT = (
    b'{"callback_time":"2019-07-01T09:30:06.828Z","payment_method":"BANKCARD","merchant_order":{"id":"6789'
    b'7"},"customer":{"email":"customer@gmail.com","id":"3439100","ip":"1.1.1.1","locale":"en"},"payment_d'
    b'ata":{"id":"276122317","status":"COMPLETED","amount":6.03,"currency":"USD","created":"2019-07-01T09:'
    b'29:57.409901Z","note":"Note","rrn":"000012725137","auth_code":"114564","is_3d":false},"card_account"'
    b':{"masked_pan":"412345...1234","issuing_country_code":"US","holder":"John Smith"}}'
)
UNLIMIT_REFUND = (
    b'{"callback_time":"2019-07-01T11:15:19.140Z","payment_method":"BANKCARD","merchant_order":{"id":"7701'
    b'83:10527453:018"},"customer":{"email":"customer@gmail.com","id":"770223:1053:0"},"refund_data":{"id"'
    b':"2761801","status":"COMPLETED","amount":34.43,"currency":"USD","created":"2019-07-01T09:33:21Z","no'
    b'te":"Note","rrn":"000071231945","auth_code":"7413455","is_3d":false},"payment_data":{"id":"2612369",'
    b'"remaining_amount":165.57},"card_account":{"masked_pan":"412345...1234","issuing_country_code":"US"}'
    b"}"
)
UNLIMIT_PAYMENT_SIGNED = (
    "7cc4b8ece90ecf214ac51a9d659f8164e759ac79929f9f05904f7f92842d239c"
    "515734b6866b4caa5cd60fab1fda3cdfd22c5a572b51ed07175e843c6c2ee31b"
)
UNLIMIT_PAYMENT_FORGED = (
    "cf9d9a9a6d602d99b2f3e7272301b609247b43981f90d313b646b16d802de212"
    "f671a626598d3465770829f83e35910f99cf897fbb25ff0e7cb0f75934c29339"
)
UNLIMIT_REFUND_SIGNED = (
    "305f3710ffe08a183ad3e1427ced90689add42e184de19f0884e20bd5409cb69"
    "6e78fedf5277c188debedf47b1001c333ea98fe077af5b54aeff0abd215acbee"
)

# github.com/razorpay/razorpay-python (MIT), commit b56ac018bf023e2b244a73a4bda2ea861115edcf:
# tests/mocks/fake_payment_authorized_webhook.json, with the signature of test_verify_webhook_signature in
# tests/test_client_utility.py and the secret of tests/helpers.py.
RAZORPAY_SECRET = b"key_secret"
RAZORPAY_SIGNED = "d60e67fd884556c045e9be7dad57903e33efc7172c17c6e3ef77db42d2b366e9"
RAZORPAY_PAYMENT = b"""\
{
  "event": "payment.authorized",
  "entity": "event",
  "contains": [
    "payment"
  ],
  "payload": {
    "payment": {
      "entity": {
        "id": "pay_6koWN7bvxujzxM",
        "entity": "payment",
        "amount": 1000000,
        "currency": "INR",
        "status": "captured",
        "order_id": "order_100000000order",
        "international": false,
        "method": "card",
        "amount_refunded": 0,
        "refund_status": null,
        "captured": true,
        "description": "random description",
        "card_id": "card_6koWNAT6LASUqy",
        "bank": null,
        "wallet": null,
        "vpa": null,
        "email": "a@b.com",
        "contact": "+919999999999",
        "notes": {
          "merchant_order_id": "random order id"
        },
        "fee": 23000,
        "service_tax": 3000,
        "error_code": null,
        "error_description": null,
        "created_at": 1479978483
      }
    }
  },
  "created_at": 1400826760
}
"""

# github.com/Flutterwave/Woocommerce, the official plugin (GPL-3.0: only the values), commit
# 29c8d3038eb5690c6084d4dbde05b2532e9b8cce: test_webhook_transaction_not_found of
# tests/PHPUnit/test-flw-wc-payment-gateway.php sends this header with this body, and
# includes/class-flw-wc-payment-gateway.php takes it where the header is the secret.
FLUTTERWAVE_SECRET = b"a4a6e4c86fc1347a48eeab1171f7fea1a10eecbac223b86db3b3e3e134fefa40"
FLUTTERWAVE_CHARGE = b'{"event":"charge.completed","data":{"tx_ref":"Rave-Pages846040622798"}}'

# https://alchemypay.readme.io/docs/webhook-signature, "Generate the string to be signed": the members of a webhook, of
# which they hid some values, and the text that is signed. Their secret is not shown, so the signature can't be checked.
ALCHEMY_PAY_BODY = b"""{
	"amount": "15.00000000",
	"orderNo": "***",
	"address": "***",
	"payTime": "2024-09-27 17:59:27",
	"signature": "f13fb8137f2c999c5932261de9bc8668b0a7b014",
	"rawRampFee": "0.998500",
	"merchantOrderNo": "***",
	"crypto": "USDT",
	"network": "TRX",
	"rampFeeUnit": "USD",
	"cryptoPrice": "0.00000000",
	"payType": "CREDIT_CARD",
	"rampFee": "0.99000000",
	"cryptoQuantity": "12.93",
	"appId": "f83Is2y7L425rxl8",
	"fiat": "USD",
	"newSignature": "+T2BJ1S2X+ffRXoF+q5c/aqgZSyjGXt7Oh073UXLti0=",
	"email": "***@gmail.com",
	"status": "PAY_SUCCESS",
	"rampFeeInUSD": "0.99"
}"""
ALCHEMY_PAY_TIME, ALCHEMY_PAY_PATH = "1727431167633", "/alchemypay-on-ramp"
ALCHEMY_PAY_TEXT = (
    "1727431167633POST/alchemypay-on-ramp"
    '{"address":"***","amount":"15.00000000","appId":"f83Is2y7L425rxl8","crypto":"USDT","cryptoPrice":"0.00000000",'
    '"cryptoQuantity":"12.93","email":"***@gmail.com","fiat":"USD","merchantOrderNo":"***","network":"TRX",'
    '"orderNo":"***","payTime":"2024-09-27 17:59:27","payType":"CREDIT_CARD","rampFee":"0.99000000",'
    '"rampFeeInUSD":"0.99","rampFeeUnit":"USD","rawRampFee":"0.998500","status":"PAY_SUCCESS"}'
)
# https://alchemypay.readme.io/docs/api-sign: an order, and it as it is signed (where the page has another number in
# `tradeNo` than in the order: a slip of the page, put right here).
ALCHEMY_PAY_ORDER = {
    "side": "BUY",
    "cryptoCurrency": "USDT",
    "address": "TSx82tWNWe5Ns6t3w94Ye3Gt6E5KeHSoP8",
    "network": "TRX",
    "fiatCurrency": "USD",
    "amount": "100",
    "depositType": 2,
    "payWayCode": "10001",
    "alpha2": "US",
    "redirectUrl": "",
    "callbackUrl": "http://payment.jyoumoney.com/alchemyRamp/pay/callback?tradeNo=DZ02207091800356504",
}
ALCHEMY_PAY_ORDER_TEXT = (
    '{"address":"TSx82tWNWe5Ns6t3w94Ye3Gt6E5KeHSoP8","alpha2":"US","amount":"100",'
    '"callbackUrl":"http://payment.jyoumoney.com/alchemyRamp/pay/callback?tradeNo=DZ02207091800356504",'
    '"cryptoCurrency":"USDT","depositType":2,"fiatCurrency":"USD","network":"TRX","payWayCode":"10001","side":"BUY"}'
)
# A stranger's test of the same signature, of a query ("sorts exact ramp fields and matches a fixed HMAC vector", in a
# public alchemy-pay-service.test.ts that is indexed without the name of its repository). The form of the text is that
# of https://alchemypay.readme.io/docs/ramp-signature-description.
ALCHEMY_PAY_QUERY_SECRET = b"test-secret-key"
ALCHEMY_PAY_QUERY_TIME = "1538054050234"
ALCHEMY_PAY_QUERY = (
    "/index/rampPageBuy?appId=f83Is2y7L425rxl8&crypto=USDC&fiat=USD&fiatAmount=50.00&merchantOrderNo=FLAYTEST123456"
    "&network=SOL&showTable=buy&timestamp=1538054050234"
)
ALCHEMY_PAY_QUERY_SIGNED = "xsqObU4T2v0xYFQbN/jMmhU3egNlr68o3UCBNEctLIs="
